"""The admin: everything can be looked at; what services decide (state, fence, lease) is read-only, with actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.authtoken.models import Token

from server.forms import RawTextField, RawTextModelForm
from server.models import Attribute, Change, Claim, Dataset, Item, Membership, Project, Status
from server.models.datasets import BASE_PATH_LENGTH, LIFE_FIELDS
from server.permissions import actor_of
from server.services import catalogue, datasets, edits, queue, workflows

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
    UserPage = UserAdmin[User]
else:
    ModelAdmin, TabularInline, UserPage = admin.ModelAdmin, admin.TabularInline, UserAdmin

LIFE = sorted(LIFE_FIELDS)


class AttributeInline(TabularInline):
    model = Attribute
    fk_name = "item"
    extra = 0


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    raw_id_fields = ["user"]


class NodeForm(RawTextModelForm):
    """A new node gets its slug from its name and parent."""

    details = RawTextField()

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if not self.errors:
            try:
                self.place()
            except ValidationError as error:
                self.add_error(None, error)

    def place(self) -> None:
        if self.instance._state.adding:
            catalogue.prepare(self.instance)


class ProjectForm(NodeForm):
    workflow = RawTextField(widget=forms.Textarea(attrs={"rows": 24, "cols": 100, "spellcheck": "false"}))


class DatasetForm(NodeForm):
    base_file_path = forms.CharField(
        required=False,
        strip=False,
        max_length=BASE_PATH_LENGTH,
        show_hidden_initial=True,
        help_text="Left empty: made from its name.",
    )

    def place(self) -> None:
        super().place()
        if not self.instance._state.adding and "base_file_path" in self.changed_data:
            catalogue.check_move(self.instance, self.instance.base_file_path)
        if not self.instance._state.adding and "needs" in self.changed_data:
            queue.check_kinds(self.instance.project, [self.instance.needs])


class NodeAdmin(ModelAdmin):
    search_fields = ["name", "slug"]
    inlines = [AttributeInline]
    list_per_page = 50
    show_full_result_count = False

    def get_readonly_fields(self, _request: HttpRequest, obj: Any = None) -> list[str]:
        # A node stays where it was made: its slug says where that is.
        return ["slug", "created", "modified", *(["parent"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Only what was edited: the form knows what the rest was when its page was opened, or even later.
        own = {field.name for field in obj._meta.concrete_fields}
        obj.save(update_fields=[*own.intersection(form.changed_data), "modified"] if change else None)
        if isinstance(obj, Project):
            workflows.keep_version(obj, request.user)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        edits.delete(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for node in queryset:
            self.delete_model(request, node)


@admin.register(Item)
class ItemAdmin(NodeAdmin):
    form = NodeForm
    list_display = ["slug", "name"]
    raw_id_fields = ["parent"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        return super().get_queryset(request).filter(plain=True)


@admin.register(Project)
class ProjectAdmin(NodeAdmin):
    inlines = [MembershipInline, AttributeInline]
    form = ProjectForm
    list_display = ["slug", "name", "workflow_type", "visibility"]
    list_filter = ["workflow_type", "visibility"]
    exclude = ["parent"]
    actions = ["retry_failed"]

    def get_readonly_fields(self, _request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002
        return ["slug", "created", "modified"]

    @admin.action(description="Retry all failed datasets", permissions=["change"])
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[Project]) -> None:
        count = sum(datasets.retry_failed(project).count for project in queryset)
        messages.success(request, f"{count} datasets are unprocessed again.")


@admin.register(Dataset)
class DatasetAdmin(NodeAdmin):
    form = DatasetForm
    list_display = ["slug", "state", "locked", "priority", "attempt", "lease_owner", "lease_expires"]
    list_filter = ["state", "locked", "project"]
    list_select_related = ["lease_owner"]
    actions = ["reset", "reset_taking_files", "hold", "let_go"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*super().get_readonly_fields(request, obj), *LIFE]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        # Others set these too: what counts is whether the person who saves changed what the page showed.
        if db_field.name in ("locked", "priority", "needs"):
            kwargs["show_hidden_initial"] = True
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "parent":
            kwargs["queryset"] = Item.objects.exclude(as_project=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.action(description="Reset: make unprocessed again", permissions=["change"])
    def reset(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        self._reset(request, queryset, take_files=False)

    @admin.action(description="Reset, taking the files as they are in the storage", permissions=["change"])
    def reset_taking_files(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        self._reset(request, queryset, take_files=True)

    def _reset(self, request: HttpRequest, queryset: QuerySet[Dataset], take_files: bool) -> None:
        found = list(queryset.values_list("pk", flat=True))
        for pk in found:
            datasets.reset(pk, take_files=take_files)
        messages.success(request, f"{len(found)} datasets are unprocessed again.")

    @admin.action(description="Hold: nobody claims them", permissions=["change"])
    def hold(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        self._set_hold(request, queryset, True)

    @admin.action(description="Let go", permissions=["change"])
    def let_go(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        self._set_hold(request, queryset, False)

    def _set_hold(self, request: HttpRequest, queryset: QuerySet[Dataset], locked: bool) -> None:
        found = list(queryset.values_list("pk", flat=True))
        for pk in found:
            datasets.set_hold(pk, locked)
        messages.success(request, f"{len(found)} datasets are {'held' if locked else 'free to be claimed'}.")


class History(ModelAdmin):
    """Rows that nobody edits."""

    show_full_result_count = False

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False


@admin.register(Claim)
class ClaimAdmin(History):
    list_display = ["id", "dataset", "user", "client", "fence", "resumed", "created", "ended", "end_reason"]
    list_filter = ["end_reason", "created"]
    list_select_related = ["dataset", "user"]
    search_fields = ["dataset__slug", "client", "flow_run_id", "request_id"]


@admin.register(Status)
class StatusAdmin(History):
    list_display = ["id", "dataset", "fence", "stage", "state", "effective", "refusal", "site_user", "created"]
    list_filter = ["stage", "state", "effective", "created"]
    list_select_related = ["dataset", "site_user"]
    search_fields = ["dataset__slug", "note", "hostname", "flow_run_id"]


@admin.register(Change)
class ChangeAdmin(History):
    list_display = ["created", "user", "token_name", "act", "target", "project_slug"]
    list_filter = ["act", "created"]
    list_select_related = ["user"]
    search_fields = ["target", "project_slug", "user__username"]


@admin.register(Attribute)
class AttributeAdmin(ModelAdmin):
    list_display = ["key", "display", "kind", "item"]
    list_filter = ["kind"]
    list_select_related = ["item"]
    search_fields = ["key", "item__slug"]
    raw_id_fields = ["item"]


class TokenInline(TabularInline):
    model = Token
    readonly_fields = ["key", "created"]
    max_num = 0


class UserWithTokenAdmin(UserPage):
    """Django's own page of a user, with the token of the user's clients."""

    actions = ["give_token"]

    def get_inlines(self, _request: HttpRequest, obj: Any = None) -> list[Any]:
        return [TokenInline] if obj else []

    @admin.action(description="Make a token for those who have none", permissions=["change"])
    def give_token(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        made = sum(Token.objects.get_or_create(user=user)[1] for user in queryset)
        messages.success(request, f"{made} tokens made; each is on its user's page.")


# A site that has made its own page of users keeps it.
if type(admin.site._registry.get(User)) is UserAdmin:
    admin.site.unregister(User)
    admin.site.register(User, UserWithTokenAdmin)
