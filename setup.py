"""Packages. configs/ and templates/, top-level folders that people edit, are inside petitgen in a wheel."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["petitgen*", "runtime*"]),
        "petitgen._data.configs",
        "petitgen._data.templates",
    ],
    package_dir={"petitgen._data.configs": "configs", "petitgen._data.templates": "templates"},
)
