"""The radio link: fading, rate, transfer time, energy, and the bits that a method uploads. NumPy and SciPy alone."""
