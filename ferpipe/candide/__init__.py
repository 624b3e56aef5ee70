"""A wireframe of the face: shape (identity), expression (animation) and head pose."""
