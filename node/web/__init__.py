"""One static page: heads as they come, a chat whose citations open the documents, earnings by contributor."""
