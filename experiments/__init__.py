"""The laboratory: trains, compares and reports; imports the library, never the other way round."""
