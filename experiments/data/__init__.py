"""Data sets as arrays, and what happens to an image before the model sees it."""
