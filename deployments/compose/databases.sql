-- The database `crunch` is made by the image itself.
CREATE DATABASE prefect OWNER crunch;
