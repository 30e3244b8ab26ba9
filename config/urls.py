from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from config import metrics

metrics.register()

handler404 = "annotation.access.not_found"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("account/", include("allauth.urls")),
    path("", include("django_prometheus.urls")),
    path("", include("annotation.urls")),
]
