"""What a person takes home: tables, figures, one zip with everything.

A caller imports from the module that defines a name.
"""
