"""Every address below /api/."""

from __future__ import annotations

from django.urls import path

from annotation.api import adjudication, annotation

urlpatterns = [
    path("queues/", annotation.QueuesApi.as_view(), name="api_queues"),
    path("campaigns/<slug:campaign>/workbench/", annotation.WorkbenchApi.as_view(), name="api_workbench"),
    path("campaigns/<slug:campaign>/lease/", annotation.LeaseApi.as_view(), name="api_lease"),
    path("campaigns/<slug:campaign>/judgments/", annotation.JudgmentsApi.as_view(), name="api_judgments"),
    path("campaigns/<slug:campaign>/return/", annotation.ReturnApi.as_view(), name="api_return"),
    path("campaigns/<slug:campaign>/history/", annotation.HistoryApi.as_view(), name="api_history"),
    path("campaigns/<slug:campaign>/practice/", annotation.PracticeApi.as_view(), name="api_practice"),
    path("campaigns/<slug:campaign>/consent/", annotation.ConsentApi.as_view(), name="api_consent"),
    path("campaigns/<slug:campaign>/adjudication/", adjudication.AdjudicationApi.as_view(), name="api_adjudication"),
    path("me/preferences/", annotation.PreferencesApi.as_view(), name="api_preferences"),
]
