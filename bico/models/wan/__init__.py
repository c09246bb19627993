"""The Wan backbone that all methods share. Each module has one concern; `backbone` combines them."""
