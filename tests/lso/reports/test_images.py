"""Rows of images with labels, and what sets images apart."""

import numpy as np
import torch

from lso.reports.images import BINARY_GAP, ROW_GAP, grid, labelled_rows


def test_a_sheet_has_a_label_for_each_row_and_its_images_unchanged() -> None:
    images = torch.rand(2, 3, 1, 8, 8)
    plain = labelled_rows(images, [], at_least=40)
    labelled = labelled_rows(images, ["one", "two"], ["-1", "", "1"], at_least=40)
    height, width = plain.shape[:2]
    assert np.array_equal(labelled[-height:, -width:], plain)
    margin = labelled[-height:, :-width]
    assert (margin < 255).any() and (labelled[:-height] < 255).any()


def test_a_wide_row_goes_on_in_lines_of_even_length() -> None:
    images = torch.rand(2, 10, 1, 8, 8)
    whole = labelled_rows(images, [], at_least=8, widest=45)  # 10 x (8 + 2) pixels need 3 lines: 5 of 2 are even
    assert whole.shape == (2 * (5 * 10 + 2 + ROW_GAP), 2 * 10 + 2, 3)
    first = grid(images[0], 2, at_least=8)
    assert np.array_equal(whole[: len(first)], first)
    uneven = labelled_rows(images[:, :7], [], at_least=8, widest=45)  # 2 lines: 4 + 3
    assert uneven.shape == (2 * (2 * 10 + 2 + ROW_GAP), 4 * 10 + 2, 3)
    assert np.array_equal(labelled_rows(images, [], at_least=8, widest=200), labelled_rows(images, [], at_least=8))


def test_black_and_white_images_are_set_apart_by_grey_and_empty_places_are_white() -> None:
    binary = grid((torch.rand(3, 1, 8, 8) < 0.5).float(), 2, at_least=8, pad=2)
    assert (binary[0] == BINARY_GAP).all() and (binary[12:20, 12:20] == 255).all()
    assert (grid(torch.rand(3, 1, 8, 8), 2)[0] == 255).all()
