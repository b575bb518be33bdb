package api_test

import (
	"strings"
	"testing"
)

// feature: NEW-13 following a problem until it is resolved
func TestFollows(t *testing.T) {
	h := newHouse(t)
	h.people()
	posted := h.want(202, "POST", "/v1/events", `{"source":"/x","type":"disk.full","problem":"disk"}`).body
	_, id, _ := strings.Cut(posted, `"ids":["`)
	id, _, _ = strings.Cut(id, `"`)
	const base = "/v1/users/user%2F8/follows"
	if got := h.want(200, "PUT", base+"/"+id, `{"mute":true}`).body; !strings.Contains(got, `"event":"`+id+`","mute":true,"tell":false`) {
		t.Errorf("followed: %s", got)
	}
	h.want(200, "PUT", base+"/"+id, `{"tell":true}`)
	if got := h.want(200, "GET", base, "").body; !strings.Contains(got, `"mute":false,"tell":true`) || strings.Count(got, id) != 1 {
		t.Errorf("listed: %s", got)
	}
	h.wantFault(422, "", "PUT", base+"/"+id, `{}`)
	h.wantFault(422, "/loud", "PUT", base+"/"+id, `{"loud":true}`)
	h.want(404, "PUT", base+"/evt_00000000000000000000000000", `{"mute":true}`).problem(t)
	h.want(404, "PUT", "/v1/users/nobody/follows/"+id, `{"mute":true}`).problem(t)
	h.want(404, "GET", "/v1/users/nobody/follows", "").problem(t)
	h.want(204, "DELETE", base+"/"+id, "")
	h.want(404, "DELETE", base+"/"+id, "").problem(t)
	audit := h.want(200, "GET", "/v1/audit", "").body
	for _, part := range []string{`"action":"follow.put","target":"user/8","detail":"` + id + `, mute"`, `"action":"follow.put","target":"user/8","detail":"` + id + `, tell"`, `"action":"follow.delete","target":"user/8","detail":"` + id + `"`} {
		if strings.Count(audit, part) != 1 {
			t.Errorf("%s is not once in the audit: %s", part, audit)
		}
	}
}
