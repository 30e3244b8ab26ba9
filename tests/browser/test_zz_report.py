from __future__ import annotations
import json
import pytest
from axe_playwright_python.sync_playwright import Axe
from annotation.models import *
from annotation.workflow import reporting
from tests.annotation.workflow.report_corpus import make_corpus

@pytest.mark.django_db(transaction=True)
def test_look(visit, db):
    world = make_corpus()
    admin = User.objects.create(username="root1", is_staff=True, is_superuser=True)
    run = reporting.build_report(campaign=world.campaign, parameters={"replicates": 60, "pdf": False})
    for name, opts in {"wide": {"viewport": {"width":1400,"height":1000}}, "phone": {"viewport":{"width":390,"height":844}}, "dark": {"viewport":{"width":1400,"height":1000},"color_scheme":"dark"}}.items():
        errors=[]
        page = visit(admin, "/", **opts)
        page.on("console", lambda m: errors.append(m.text) if m.type=="error" else None)
        page.goto(f"/reports/{run.pk}/")
        print(name, errors[:5], page.evaluate("document.documentElement.scrollWidth"), page.evaluate("innerWidth"))
        page.screenshot(path=f"/tmp/look_{name}.png", full_page=False)
        page.evaluate("document.getElementById('alignment').scrollIntoView()")
        page.screenshot(path=f"/tmp/look_{name}2.png")
        page.evaluate("document.getElementById('confusion') ? document.getElementById('confusion').scrollIntoView() : window.scrollTo(0, 9000)")
        page.screenshot(path=f"/tmp/look_{name}3.png")
        if name != "phone":
            found = Axe().run(page)
            print(name, [(v["id"], len(v["nodes"]), v["nodes"][0]["html"][:160], v["nodes"][0].get("failureSummary","")[:200]) for v in found.response["violations"]])
