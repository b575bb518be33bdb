package auth

import (
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Permission is a thing a key may do.
type Permission string

// Permissions. Admin includes all others within its tenant; none of the others
// includes another one.
const (
	Publish        Permission = "publish"         // post events
	Read           Permission = "read"            // read everything of the tenant but secrets
	Admin          Permission = "admin"           // edit everything of the tenant
	Send           Permission = "send"            // push to a device (AirNotifier)
	Broadcast      Permission = "broadcast"       // push to every device of an app (AirNotifier)
	RegisterDevice Permission = "register_device" // register devices (AirNotifier)
	IssueKey       Permission = "issue_key"       // issue keys with no more than its own permissions
)

// Permissions lists all there are, in the order they are shown.
func Permissions() []Permission {
	return []Permission{Publish, Read, Admin, Send, Broadcast, RegisterDevice, IssueKey}
}

// parsePermissions checks names; faults point into the member "permissions".
func parsePermissions(names []string) ([]Permission, []belfry.Field) {
	var known []string
	for _, p := range Permissions() {
		known = append(known, string(p))
	}
	var faults []belfry.Field
	var ps []Permission
	for i, name := range names {
		if !slices.Contains(known, name) {
			msg := "no such permission; there are " + strings.Join(known, ", ")
			if near := belfry.Nearest(name, known); near != "" {
				msg = "no such permission; did you mean " + near + "?"
			}
			faults = append(faults, belfry.Field{Pointer: "/permissions/" + strconv.Itoa(i), Message: msg})
			continue
		}
		if p := Permission(name); !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps, faults
}

// Identity is who is asking. The zero Identity may do nothing.
type Identity struct {
	Tenant      string // the one this request is about
	Key         string // id of the key; BootstrapKey for the configuration's
	Name        string // what people call the key
	App         string // the AirNotifier app the key works for
	Permissions []Permission
	Root        bool // may name any tenant, and manage tenants
}

// BootstrapKey is the id under which the root key of the configuration is
// known; it has no document.
const BootstrapKey = "bootstrap"

// May reports whether the identity has the permission within its tenant.
func (i Identity) May(p Permission) bool {
	return i.Root || slices.Contains(i.Permissions, p) || slices.Contains(i.Permissions, Admin)
}

// Origin is the name under which the identity's contacts, members and grants
// are kept apart from others'.
func (i Identity) Origin() string {
	if i.Name != "" {
		return i.Name
	}
	return i.Key
}

// Who names the identity in the audit.
func (i Identity) Who() string {
	if i.Name != "" && i.Name != i.Key {
		return i.Key + " (" + i.Name + ")"
	}
	return i.Key
}
