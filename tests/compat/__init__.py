"""Tests with detectron2's own programs, projects and main branch."""
