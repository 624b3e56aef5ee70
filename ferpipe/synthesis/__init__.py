"""Synthetic faces: appearance, scene, rendering."""
