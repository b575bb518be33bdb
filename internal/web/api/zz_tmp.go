package api

type Manager interface{}

func (s *Server) objectRoutes()       {}
func (s *Server) peopleRoutes()       {}
func (s *Server) subscriptionRoutes() {}
func (s *Server) catalogueRoutes()    {}
