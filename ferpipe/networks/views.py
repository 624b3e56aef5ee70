"""Test-time augmentation: several views of an image, whose probabilities are averaged."""

__all__ = ["VIEWS", "views_of"]

VIEWS = ("one", "flip", "ten_crop")


def views_of(frames, views):
    """Return the views of images that a network looks at.

    Parameters
    ----------
    frames : Tensor of shape (n, c, h, w)
        Images.
    views : {"one", "flip", "ten_crop"}
        The image; also its mirror image; or five windows of 11/12 of the sides, in the
        corners and in the middle, and their mirror images.

    Returns
    -------
    frames : list of Tensor of shape (n, c, h', w')
        1, 2 or 10 of them.
    """
    if views == "one":
        return [frames]
    if views == "ten_crop":
        height, width = frames.shape[-2:]
        down, right = round(height / 12), round(width / 12)
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        windows = [
            frames[..., top : top + height - down, left : left + width - right]
            for top, left in corners
        ]
    else:
        windows = [frames]
    return [view for window in windows for view in (window, window.flip(-1))]
