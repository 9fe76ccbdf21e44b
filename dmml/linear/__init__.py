"""Linear models of an outcome in closed form or by Newton's method; NumPy and SciPy alone."""
