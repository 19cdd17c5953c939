"""Somebody's own pictures: where they were taken, by EXIF, tables, tracks and films, and into which split they go."""
