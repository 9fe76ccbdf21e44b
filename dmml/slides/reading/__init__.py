"""Reading of tiles in the background: in processes, which may crash or hang, or in a thread."""
