"""pytest plugins of this repository; ``tests/conftest.py`` names them."""
