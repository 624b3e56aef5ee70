"""From photos to faces: detection, landmarks, alignment, lighting, tracking."""
