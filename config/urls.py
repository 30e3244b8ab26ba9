from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from config.metrics import figures

handler404 = "annotation.access.not_found"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("account/", include("allauth.urls")),
    path("metrics", figures, name="metrics"),
    path("", include("annotation.urls")),
]
