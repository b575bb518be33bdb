package resolve

import (
	"slices"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Directory is a read-only view of one tenant at one version, or a later one.
// All methods take many keys at once, since an implementation may have to ask
// a database; their errors are passed on by Page as they are. What they return
// is shared and must not be changed.
type Directory interface {
	// Ancestors are the object itself first and the root last, deleted
	// objects included. An object nobody declared is a child of the root.
	Ancestors(object string) ([]belfry.Object, error)
	// Grants are the grants on each of the objects; objects without any may
	// be absent.
	Grants(objects []string) (map[string]Grants, error)
	// Groups are those of the ids that are groups.
	Groups(ids []string) (map[string]Group, error)
	// Persons are those of the ids that are users, whatever their state.
	Persons(ids []string) (map[string]*belfry.Person, error)
	// PersonsByEmail gives the user of each normalised address that has one.
	PersonsByEmail(emails []string) (map[string]string, error)
	// Members are those of a subscription whose principal sorts after after,
	// in the order of principals and all of one principal together; about
	// limit of them, none only at the end.
	Members(subscription, after string, limit int) ([]belfry.Member, error)
	// JoinedGroups are the members of a subscription that are groups.
	JoinedGroups(subscription string) ([]belfry.Member, error)
	// OptOuts are those of a subscription whose Who, a principal or a
	// normalised address, sorts after after, in that order; about limit of
	// them, none only at the end.
	OptOuts(subscription, after string, limit int) ([]belfry.OptOut, error)
	// Steps are steps of workflows, the latest first; next continues, empty
	// at the end.
	Steps(q belfry.StepQuery) (steps []belfry.HistoryEntry, next string, err error)
	// UserIDs are the ids of active users after after, sorted; fewer than
	// limit only at the end.
	UserIDs(after string, limit int) ([]string, error)
}

// Group is a group with its direct members told apart and sorted.
type Group struct {
	ID      string
	Address string   // told once instead of the members; empty = tell the members
	Users   []string // every direct member that is not a group, known or not
	Groups  []string
}

// Grants are all grants on one object, each part sorted by principal.
type Grants struct {
	Users  []belfry.Grant // to users, known or not
	Groups []belfry.Grant // to groups, pseudo groups among them
}

// Pseudo are the reserved groups that stand for every active user.
var Pseudo = []string{belfry.GroupAuthenticated, belfry.GroupAnyone}

// IsPseudo reports whether id is one of them.
func IsPseudo(id string) bool { return slices.Contains(Pseudo, id) }
