"""Raw data of users as samples: inputs -> readers -> rows -> layouts -> fields -> samples.

``inputs`` parses what the user names and chooses a reader; ``readers`` yield rows; ``layouts`` converts rows of other
trainers to plain columns; ``fields`` selects and converts columns, with ``values``, ``chats`` and ``choices``;
``samples`` finds images (``image_references``), right options (``answers``), and validates.
"""

from pairuni.pairug.sources.samples import SampleReader

__all__ = ["SampleReader"]
