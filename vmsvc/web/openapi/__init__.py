"""The OpenAPI document, made from the handlers.

In: handlers whose methods carry an `Operation`. Out: `/api/v1/openapi.json`, and Swagger UI at `/api/v1/`.
Begin with `operations` (how a handler's method is described); `responses` has the schemas of what the service answers;
`document` builds the document.
"""
