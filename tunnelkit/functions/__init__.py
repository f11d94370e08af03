"""Functions of a program that run in processes of their own: with their secrets, in their zone.

:class:`App` is where they are declared; calls are :class:`FunctionCall` objects.
"""

from tunnelkit.functions.app import App
from tunnelkit.functions.call import FunctionCall, gather
from tunnelkit.functions.function import Function
from tunnelkit.functions.spec import Retries

__all__ = ["App", "Function", "FunctionCall", "Retries", "gather"]
