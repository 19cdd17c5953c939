from .build import build_table
from .table import Cell, Column, Row, Table

__all__ = ["Cell", "Column", "Row", "Table", "build_table"]
