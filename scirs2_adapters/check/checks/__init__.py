"""What is checked: the functions of each file are checks, and the first line of a docstring says what must be true."""
