"""One settings file, from the environment. Every variable has a line in docs/operations.md (a test checks).

Without any variable set, Attune runs on this machine alone: SQLite, a broker made of files, a secret made once and kept
in the data folder. With ATTUNE_PRODUCTION=1 it refuses to start on a missing secret, DEBUG, or open hosts.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Any

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from kombu import Exchange, Queue

ROOT = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

DATA_DIR = Path(env.str("ATTUNE_DATA_DIR", default=str(ROOT / "var")))
DATA_DIR.mkdir(parents=True, exist_ok=True)
PRODUCTION = env.bool("ATTUNE_PRODUCTION", default=False)
DEBUG = env.bool("ATTUNE_DEBUG", default=False)


def local_secret() -> str:
    """A secret of this installation's own, made on first start, readable by its owner alone."""
    path = DATA_DIR / "secret_key"
    try:
        with path.open("x") as handle:
            path.chmod(0o600)
            handle.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    return path.read_text().strip()


SECRET_KEY = env.str("ATTUNE_SECRET_KEY", default="")
ALLOWED_HOSTS = env.list("ATTUNE_ALLOWED_HOSTS", default=[])
if PRODUCTION:
    if len(SECRET_KEY) < 40:
        raise ImproperlyConfigured("ATTUNE_SECRET_KEY (or ATTUNE_SECRET_KEY_FILE) must hold at least 40 characters.")
    if DEBUG:
        raise ImproperlyConfigured("ATTUNE_DEBUG must be off in production.")
    if not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS:
        raise ImproperlyConfigured("ATTUNE_ALLOWED_HOSTS must name the hosts this installation answers to, without *.")
else:
    SECRET_KEY = SECRET_KEY or local_secret()
    ALLOWED_HOSTS = ALLOWED_HOSTS or ["127.0.0.1", "localhost", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.list("ATTUNE_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "annotation",  # before unfold, so that its admin/index.html is found first
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "django_filters",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "axes",
    "django_structlog",
    "django_prometheus",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.middleware.AdminPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
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

# A database -------------------------------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db("ATTUNE_DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'attune.sqlite3'}")
}
database = DATABASES["default"]
if database["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: a transaction that reads before it writes cannot be upgraded under another writer and fails at once,
    # whatever the timeout. synchronous=FULL: in WAL mode NORMAL may lose the last acknowledged answers on power loss.
    database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
else:
    database |= {"ENGINE": "config.postgresql", "CONN_MAX_AGE": 0}
    # While the database is away a request waits ten seconds and says so; the pool's attempts to connect may not pause
    # for longer either, or an outage of an hour would be one of two.
    pool_size = env.int("ATTUNE_DATABASE_POOL", default=8)
    database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": pool_size, "timeout": 10, "reconnect_timeout": 10}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# People -----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "annotation.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "config.accounts.ClosedSignup"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}
USERSESSIONS_TRACK_ACTIVITY = False
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
SOCIALACCOUNT_ONLY = False
SOCIALACCOUNT_PROVIDERS: dict[str, Any] = {}
if env.str("ATTUNE_OIDC_SERVER", default=""):
    SOCIALACCOUNT_PROVIDERS["openid_connect"] = {
        "APPS": [
            {
                "provider_id": "oidc",
                "name": env.str("ATTUNE_OIDC_NAME", default="Single sign-on"),
                "client_id": env.str("ATTUNE_OIDC_CLIENT_ID"),
                "secret": env.str("ATTUNE_OIDC_CLIENT_SECRET"),
                "settings": {"server_url": env.str("ATTUNE_OIDC_SERVER")},
            }
        ]
    }
AXES_FAILURE_LIMIT = env.int("ATTUNE_LOGIN_ATTEMPTS", default=8)
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Behind one proxy the client's address is the last hop it adds; without a proxy the header is not believed.
AXES_IPWARE_PROXY_COUNT = env.int("ATTUNE_PROXIES", default=0) or None
AXES_IPWARE_META_PRECEDENCE_ORDER = (
    ["HTTP_X_FORWARDED_FOR", "REMOTE_ADDR"] if AXES_IPWARE_PROXY_COUNT else ["REMOTE_ADDR"]
)

# Transport --------------------------------------------------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 24 * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
HTTPS = env.bool("ATTUNE_HTTPS", default=PRODUCTION)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/"]
SECURE_HSTS_SECONDS = env.int("ATTUNE_HSTS_SECONDS", default=3600 if HTTPS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("ATTUNE_HSTS_SUBDOMAINS", default=HTTPS)
if env.int("ATTUNE_PROXIES", default=0):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
ATTUNE_UPLOAD_MAX_BYTES = env.int("ATTUNE_UPLOAD_MAX_BYTES", default=512 * 1024 * 1024)

# Jobs -------------------------------------------------------------------------------------------------------------
# The job row in the database is the truth; the broker is a hint that may lose or repeat a message freely.
REDIS_URL = env.str("ATTUNE_REDIS_URL", default="")
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
# Two queues, so that a host can be given to one of them (celery … worker --queues quick); a plain worker takes both.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("quick", "heavy")]
CELERY_TASK_DEFAULT_QUEUE = "quick"
CELERY_TASK_TIME_LIMIT = env.int("ATTUNE_TASK_TIME_LIMIT", default=6 * 3600)
CELERY_WORKER_CONCURRENCY = env.int("ATTUNE_WORKER_PROCESSES", default=2)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = {"reconcile": {"task": "annotation.tasks.reconcile", "schedule": 10.0}}
if REDIS_URL:
    CELERY_BROKER_URL = REDIS_URL
    # A worker that died holds its messages until the visibility timeout; kombu looks for them only when told how often.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": env.int("ATTUNE_VISIBILITY_TIMEOUT", default=300),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
else:
    BROKER_DIR = DATA_DIR / "broker"
    for folder in ("queue", "processed", "control"):
        (BROKER_DIR / folder).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_URL = "filesystem://localhost/"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(BROKER_DIR / "queue"),
        "data_folder_out": str(BROKER_DIR / "queue"),
        "processed_folder": str(BROKER_DIR / "processed"),
        "control_folder": str(BROKER_DIR / "control"),
        "polling_interval": 0.05,
        "store_processed": False,
    }
ATTUNE_JOB_LEASE_SECONDS = env.int("ATTUNE_JOB_LEASE_SECONDS", default=60)

# Files ------------------------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("ATTUNE_STATIC_ROOT", default=str(ROOT / "staticfiles")))
FRONTEND_DIST = ROOT / "frontend" / "dist"
STATICFILES_DIRS = [FRONTEND_DIST] if FRONTEND_DIST.is_dir() else []
MEDIA_ROOT = Path(env.str("ATTUNE_MEDIA_ROOT", default=str(DATA_DIR / "files")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
if env.str("ATTUNE_S3_BUCKET", default=""):
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {  # type: ignore[dict-item]
            "bucket_name": env.str("ATTUNE_S3_BUCKET"),
            "endpoint_url": env.str("ATTUNE_S3_ENDPOINT", default=None),
            # A server of one's own has one name, not one for each bucket.
            "addressing_style": "path" if env.str("ATTUNE_S3_ENDPOINT", default="") else None,
        },
    }
FILE_UPLOAD_PERMISSIONS = 0o600

# Classifier -------------------------------------------------------------------------------------------------------
ATTUNE_CLASSIFIER = env.str("ATTUNE_CLASSIFIER", default="default")
ATTUNE_CLASSIFIER_REVISION = env.str("ATTUNE_CLASSIFIER_REVISION", default="")
ATTUNE_CLASSIFIER_MAPPING = env.json("ATTUNE_CLASSIFIER_MAPPING", default={})
ATTUNE_CLASSIFIER_ACTIVATION = env.str("ATTUNE_CLASSIFIER_ACTIVATION", default="softmax")
ATTUNE_CLASSIFIER_THREADS = env.int("ATTUNE_CLASSIFIER_THREADS", default=0)
ATTUNE_ALLOW_HUB = env.bool("ATTUNE_ALLOW_HUB", default=False)
ATTUNE_BASE_ENCODER = env.str("ATTUNE_BASE_ENCODER", default="")
ATTUNE_CACHE_DIR = Path(env.str("ATTUNE_CACHE_DIR", default=str(DATA_DIR / "cache")))
ATTUNE_PROMPTS = env.str("ATTUNE_PROMPTS", default="")
ATTUNE_MODELS = env.str("ATTUNE_MODELS", default="")
ATTUNE_ALLOW_PRIVATE_ENDPOINTS = env.bool("ATTUNE_ALLOW_PRIVATE_ENDPOINTS", default=False)
ATTUNE_PRELABEL_CHUNK = env.int("ATTUNE_PRELABEL_CHUNK", default=4000)

# API --------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "annotation.access.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["annotation.access.Denied"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.ScopedRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"export": "60/hour"},
    "EXCEPTION_HANDLER": "annotation.access.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Attune",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SCHEMA_PATH_PREFIX": "/api/",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "annotation.api.schema.document_refusals",
    ],
    "ENUM_NAME_OVERRIDES": {
        "JobStateEnum": "annotation.models.running.Job.STATES",
        "CampaignStateEnum": "annotation.models.campaigns.Campaign.STATES",
        "TaskEnum": ["verify", "rate"],
        "QueueEnum": ["verify", "rate", "adjudicate"],
        "ItemKindEnum": ["user", "response", "rate"],
        "DisputeKindEnum": ["user", "response"],
        "JobKindEnum": "annotation.models.running.Job.KINDS",
        "LaunchedKindEnum": "annotation.api.jobs.LAUNCHED",
        "EmotionEnum": "evaluation.emotions.EMOTIONS",
        "SkipReasonEnum": ["unclear", "garbled", "language", "upsetting", "other"],
    },
}

# Language, time, log ----------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
USE_I18N = True
TIME_ZONE = env.str("ATTUNE_TIME_ZONE", default="UTC")
USE_TZ = True

ATTUNE_METRICS_TOKEN = env.str("ATTUNE_METRICS_TOKEN", default="")
LOG_FORMAT = env.str("ATTUNE_LOG_FORMAT", default="json" if PRODUCTION else "console")
# What every line has, whether the product or a library wrote it: the ids of its request and job, where, how bad, when.
LOGGED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *LOGGED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)


def log_formatter(renderer: Any) -> dict[str, Any]:
    return {"()": structlog.stdlib.ProcessorFormatter, "processor": renderer, "foreign_pre_chain": LOGGED}


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "console": log_formatter(structlog.dev.ConsoleRenderer(colors=False)),
        "json": log_formatter(structlog.processors.JSONRenderer()),
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "stream": sys.stderr}},
    "root": {"handlers": ["stderr"], "level": env.str("ATTUNE_LOG_LEVEL", default="WARNING")},
    "loggers": {"annotation": {"level": "INFO"}, "axes": {"level": "WARNING"}},
}


# Admin ------------------------------------------------------------------------------------------------------------
def admin_link(title: str, icon: str, model: str, app: str = "annotation") -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{app}_{model}_changelist")}


UNFOLD = {
    "SITE_TITLE": "Attune",
    "SITE_HEADER": "Attune",
    "SITE_URL": "/",
    "SITE_SYMBOL": "graphic_eq",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("annotation/mark.svg")},
    ],
    "DASHBOARD_CALLBACK": "annotation.admin.dashboard.dashboard",
    "STYLES": [lambda request: static("annotation/admin.css")],
    "SCRIPTS": [lambda request: static("annotation/admin.js")],
    "SHOW_VIEW_ON_SITE": False,
    # The accent of the workbench, so that both feel like one product.
    "COLORS": {
        "primary": {
            "50": "242 247 251",
            "100": "226 236 245",
            "200": "196 217 234",
            "300": "156 195 228",
            "400": "105 158 201",
            "500": "66 120 165",
            "600": "43 81 112",
            "700": "37 70 97",
            "800": "32 59 81",
            "900": "28 49 67",
            "950": "17 31 44",
        }
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    admin_link("Jobs", "pending_actions", "job"),
                    admin_link("Reports", "summarize", "reportrun"),
                ]
            },
            {
                "title": "Corpus",
                "items": [
                    admin_link("Data sets", "library_books", "dataset"),
                    admin_link("Systems", "smart_toy", "system"),
                    admin_link("Dialogues", "forum", "dialogue"),
                    admin_link("Responses", "chat_bubble", "response"),
                    admin_link("Turns asked", "auto_awesome", "generation"),
                    admin_link("Imports", "upload_file", "importrun"),
                    admin_link("Classifiers", "label", "classifier"),
                ],
            },
            {
                "title": "Campaigns",
                "items": [
                    admin_link("Campaigns", "fact_check", "campaign"),
                    admin_link("Items", "list", "item"),
                    admin_link("Assignments", "assignment_ind", "slot"),
                    admin_link("Judgments", "how_to_vote", "judgment"),
                    admin_link("Adjudications", "gavel", "adjudication"),
                ],
            },
            {
                "title": "People",
                "items": [
                    admin_link("Accounts", "person", "user"),
                    admin_link("Memberships", "group", "membership"),
                    admin_link("Invitations", "mail", "invitation"),
                    admin_link("Sessions", "devices", "usersession", "usersessions"),
                    admin_link("Second factors", "key", "authenticator", "mfa"),
                    admin_link("Locks", "lock", "accessattempt", "axes"),
                    admin_link("Audit log", "history", "auditevent"),
                ],
            },
        ],
    },
}
