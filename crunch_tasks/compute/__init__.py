"""The workflow's processes: how a script or Snakemake is started, watched, ended and reported."""
