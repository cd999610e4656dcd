"""Records to charts: tables in, plotly Figures out, with a template of our own. This room and `export` know plotly.

A caller imports from the module that defines a name, so that a page loads only the charts that it shows.
"""
