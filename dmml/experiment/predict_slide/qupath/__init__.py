"""The answer on a slide as files that QuPath opens: tiles, regions and overlays."""
