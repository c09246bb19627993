"""What people read: tables, statistics, plots, figures, the gallery, and the raters' pages.

Everything here comes from files of results; no model runs.
"""
