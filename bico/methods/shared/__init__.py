"""Code that all methods share: the interface of a method, and how clips are composed."""
