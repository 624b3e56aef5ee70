"""Synthetic faces: sampling of appearances, scene geometry and rendering."""
