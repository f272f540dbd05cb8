"""The catalog: which blocks a tenant's span table consists of, kept as a Delta Lake log beside the blocks.

`catalog.Catalog` is the entrance, `snapshot` what it takes and gives. docs/formats/catalog.md tells the format and the rules.
"""

from spanlake.blocks.catalog.catalog import Catalog
from spanlake.blocks.catalog.snapshot import Block, NewBlock, TableSnapshot, block_path
from spanlake.blocks.catalog.tenants import block_key

__all__ = ["Block", "Catalog", "NewBlock", "TableSnapshot", "block_key", "block_path"]
