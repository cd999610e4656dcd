"""The stages of the framework; this is where data and models meet."""
