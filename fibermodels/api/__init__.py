"""The project in a few calls, for notebooks: `fibermodels.fit`, `fibermodels.explore`, `fibermodels.load`."""
