"""Django's settings of the ready site. What can be set is read from the environment by `server.site.environment`."""

from __future__ import annotations

from django.utils.functional import SimpleLazyObject

from server.operations import logs
from server.site import environment

DEBUG = environment.boolean("CRUNCH_DEBUG")
# Lazy, so that reading the settings (a type checker does) makes no folder.
SECRET_KEY = SimpleLazyObject(environment.secret_key)
ALLOWED_HOSTS = environment.words("CRUNCH_ALLOWED_HOSTS", environment.LOOPBACK_HOSTS)
CSRF_TRUSTED_ORIGINS = environment.origins("CRUNCH_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    # Before staticfiles, so that `runserver` serves static files as a production server does.
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "js_lib_leaflet",
    "server",
]
MIDDLEWARE = [
    "server.operations.requests.Watch",
    "django.middleware.security.SecurityMiddleware",
    "server.pages.middleware.ContentSecurityPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "server.operations.bodies.LeftBodies",
    "server.operations.at_once.AtOnce",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "server.pages.middleware.UnseenCharacters",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "server.operations.sign_in.SlowDown",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "server.site.urls"
ASGI_APPLICATION = "server.site.asgi.application"
WSGI_APPLICATION = "server.site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# No ATOMIC_REQUESTS: a claim is one short transaction, and nothing talks to the network inside one.
DATABASES = {"default": environment.database()}
STORAGES = {
    "default": environment.storage(),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

# Cookies go over TLS only, once the site says that it is reached so. On loopback there is no TLS.
SESSION_COOKIE_SECURE = any(origin.startswith("https:") for origin in CSRF_TRUSTED_ORIGINS)
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "Crunch",
    "DESCRIPTION": "Projects, datasets, claims and statuses.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
}
WEBHOOKS_PRIVATE = environment.boolean("CRUNCH_WEBHOOKS_PRIVATE")
LOGGING = logs.configuration(environment.log_format())
