"""Tests of flows run in both libraries."""

from tests.contracts.conftest import lib as lib
