"""The linear assignment problem, solved without a package that takes longer to import than all of its answers here."""

import math

import numpy as np


def assign(costs: np.ndarray) -> list[int]:
    """Column of every row, one to one with the least total cost, in O(n³).

    Rows are added one by one, each along the shortest augmenting path (Crouse, "On implementing 2D rectangular
    assignment algorithms", 2016, algorithm of section III). Of equally good assignments it gives the one of
    `scipy.optimize.linear_sum_assignment`.

    Args:
        costs: `(n, n)`, finite.
    """
    table = costs.tolist()
    size = len(table)
    row_price, column_price = [0.0] * size, [0.0] * size
    row_of, column_of = [-1] * size, [-1] * size
    for start in range(size):
        before, distance, steps = _shortest_path(table, start, row_price, column_price, row_of)
        end = steps[-1]
        length = distance[end]
        row_price[start] += length
        for column in steps:
            if column != end:
                row_price[row_of[column]] += length - distance[column]
            column_price[column] -= length - distance[column]
        row = -1
        while row != start:
            row = before[end]
            row_of[end] = row
            column_of[row], end = end, column_of[row]
    return column_of


def _shortest_path(
    table: list[list[float]], row: int, row_price: list[float], column_price: list[float], row_of: list[int]
) -> tuple[list[int], list[float], list[int]]:
    """Dijkstra's way from a row to a free column: the row before every column, distances, columns in order visited."""
    size = len(table)
    before, distance, steps, length = [-1] * size, [math.inf] * size, [], 0.0
    # from the last to the first, so that equal costs throughout give the identity
    waiting = list(range(size))[::-1]
    while True:
        nearest, lowest = -1, math.inf
        for place, column in enumerate(waiting):
            reached = length + table[row][column] - row_price[row] - column_price[column]
            if reached < distance[column]:
                before[column], distance[column] = row, reached
            if distance[column] < lowest or (distance[column] == lowest and row_of[column] < 0):
                nearest, lowest = place, distance[column]
        length, column = lowest, waiting[nearest]
        steps.append(column)
        if row_of[column] < 0:
            return before, distance, steps
        row = row_of[column]
        waiting[nearest] = waiting[-1]
        waiting.pop()
