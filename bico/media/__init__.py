"""Images and clips, in and out of files.

What a source is and what a clip shows are no business of this package.
"""
