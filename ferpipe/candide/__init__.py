"""A wireframe of the face: who it is, what it does, how it is turned."""
