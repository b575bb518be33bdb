package api

import (
	"context"
	"net/http"
	"time"
)

// NodeView is one process of the service.
type NodeView struct {
	ID      string         `json:"id"`
	Name    string         `json:"name" doc:"The host's"`
	Address string         `json:"address"`
	Roles   []string       `json:"roles"`
	Version string         `json:"version"`
	Started time.Time      `json:"started"`
	Until   *time.Time     `json:"until,omitempty" doc:"Others take over what it does after this time, unless it gives a sign of life; absent where no others can"`
	Alive   bool           `json:"alive"`
	Self    bool           `json:"self" doc:"It is the one that answers"`
	Shards  map[string]int `json:"shards" doc:"How many it has of the 256 plan, delivery and source shards"`
}

// Nodes tells which processes form the service.
type Nodes interface {
	Nodes(ctx context.Context) ([]NodeView, error)
}

func (s *Server) nodeRoutes() {
	route(s, spec{id: "listNodes", method: http.MethodGet, path: "/v1/nodes", tag: "Nodes", root: true, summary: "List the processes that form the service, and how the work is divided"},
		func(ctx context.Context, _ *call, _ *struct{}) (*reply[nodeList], error) {
			all, err := s.Nodes.Nodes(ctx)
			if err != nil {
				return nil, err
			}
			return &reply[nodeList]{Status: http.StatusOK, Body: nodeList{Nodes: all}}, nil
		})
}

// nodeList is not paged: a service has a few nodes.
type nodeList struct {
	Nodes []NodeView `json:"nodes"`
}
