"""gradscope: why did this model stop learning?"""

__version__ = "0.1.0"
