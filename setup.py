"""Packages. configs/ and templates/ are top-level folders that people edit; in a wheel they travel inside petitgen."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["petitgen*", "runtime*"]),
        "petitgen.configs",
        "petitgen.templates",
    ],
    package_dir={"petitgen.configs": "configs", "petitgen.templates": "templates"},
    package_data={
        "petitgen.configs": ["**/*.yaml", "**/*.csv"],
        "petitgen.templates": ["**/*.j2"],
    },
)
