"""Music source separation and music translation, built from nothing: the library behind the course's chapters.

Modules named after a topic (`spectral`, ...) are exported from the chapter of that topic; the packages `data` and
`notebook` are ordinary modules that the chapters stand on.
"""

__version__ = "0.1.0"
