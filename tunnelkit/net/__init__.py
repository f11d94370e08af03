"""The only code that makes system calls on the byte path."""
