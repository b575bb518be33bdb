package manage

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Each kind of rule in words.
func TestRulesInWords(t *testing.T) {
	for want, r := range map[string]belfry.Rule{
		"whoever is teacher there":                                  {Role: &belfry.RoleRule{Roles: []string{"teacher"}}},
		"whoever is teacher or manager on its container, not above": {Role: &belfry.RoleRule{Roles: []string{"teacher", "manager"}, Origins: []string{"local"}, On: "container"}},
		"whoever is owner on the closest post or thread above it, not above that": {
			Role: &belfry.RoleRule{Roles: []string{"owner"}, Origins: []string{"ancestor_local"}, AncestorTypes: []string{"post", "thread"}}},
		"whoever is reviewer at the destination or on the closest section above it or above that": {
			Role: &belfry.RoleRule{Roles: []string{"reviewer"}, Origins: []string{"merged", "ancestor_merged"}, AncestorTypes: []string{"section"}, On: "destination"}},
		"the actor of the last step of it": {Workflow: &belfry.WorkflowRule{}},
		"the actor of the last step but comment and view of it": {
			Workflow: &belfry.WorkflowRule{Transitions: []string{"-", "comment", "view"}}},
		"the actor and reviewers of every submit or publish of it and its parent, in any of its places": {Workflow: &belfry.WorkflowRule{Origins: []string{"context", "container"},
			Transitions: []string{"submit", "publish"}, Lookup: "all", Variables: []string{"actor", "reviewers"}, History: "global"}},
		"the actor of the last step of the closest folder above it": {
			Workflow: &belfry.WorkflowRule{Origins: []string{"ancestor"}, AncestorTypes: []string{"folder"}, Transitions: []string{"*"}}},
		"those that event.data.reviewers .map(r, string(r)) gives": {Computed: &belfry.ComputedRule{Expression: "event.data.reviewers\n  .map(r, string(r))"}},
		"those it is about": {Related: &belfry.RelatedRule{}},
	} {
		got := recipients(&belfry.Subscription{Recipients: []belfry.Rule{r}}, &facts{})
		if want += " and those who joined"; got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}
