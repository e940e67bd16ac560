"""The bundled trading pipeline: an island that imports nothing of the measuring half."""
