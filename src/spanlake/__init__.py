"""spanlake: any span in, one open columnar table, TraceQL out.

Importing this package loads no third-party library; sub-packages load what they need.
"""

__version__ = "0.1.0"
