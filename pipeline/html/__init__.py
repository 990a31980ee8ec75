"""A report as one HTML file: no scripts, nothing loaded, readable on a phone, in the dark and on paper."""

from .page import render as render
