"""What all methods have in common: what a method is, and how clips are composed."""
